"""Words that results, settings and tables share: why an attack failed, what it aims at, what it keeps small."""

from __future__ import annotations

# Reasons why an image came back unchanged.
FOOLED = ""  # it did not: the attack succeeded
ALREADY_WRONG = "already misclassified"  # before the attack, which leaves it as it is
OWN_CLASS = "the target is its own class"
NO_ADVERSARIAL = "no adversarial image found"  # within the attack's budget
FLAGGED = "flagged by a detector"  # it fools the classifier, and is returned, but it had to evade the detector, too
NO_PAIR = "no pair of values left that helps"  # JSMA: the saliency map is empty
FLAT = "the network's gradient is zero wherever the attack looked"
LOST_TO_ROUNDING = "lost when rounded to 8 bits"  # fooled as floats, not as the image that can be saved

# Names of the settings of every attack that can aim, and the values of the first.
TARGET, TARGET_CLASS, TARGET_SEED = "target", "target_class", "target_seed"
UNTARGETED, NEXT, LEAST_LIKELY, RANDOM = "untargeted", "next", "least-likely", "random"
GIVEN, BEST = "given", "best"
ONLY_WITH = {TARGET_CLASS: GIVEN, TARGET_SEED: RANDOM}  # setting -> the target with which alone it has an effect

NORMS = {"linf": "L∞", "l2": "L2", "l0": "L0"}  # as people write them
