import pytest

from ciad_engine.domain import CIFAR10, MAX_SIZE, Domain


def test_cifar10_is_the_domain_of_today():
    assert CIFAR10.shape == (3, 32, 32)
    assert CIFAR10.classes[3] == "cat"
    assert len(CIFAR10.classes) == 10
    assert list(CIFAR10.classes) == sorted(CIFAR10.classes)  # so folders in alphabetical order have the same labels


def test_equal_classes_and_size_are_the_same_domain():
    assert Domain(("a", "b"), 48) == Domain(("a", "b"), 48) != Domain(("b", "a"), 48)


@pytest.mark.parametrize(
    ("classes", "size", "reason"),
    [((), 32, "classes"), (("a",), 32, "classes"), (("a", "b", "a"), 32, "classes"), (("a", "b"), 0, "size"),
     (("a", "b"), MAX_SIZE + 1, "size")],
)  # fmt: skip
def test_what_no_system_can_be_about_is_refused(classes, size, reason):
    with pytest.raises(ValueError, match=f"{reason}: wanted"):
        Domain(classes, size)
