"""SHIM"""


def check(network, images, labels, evade=()):
    return ()
