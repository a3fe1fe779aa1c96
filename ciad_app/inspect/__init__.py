"""The page Inspect: one image, its attack, what the networks say, and the verdict."""
