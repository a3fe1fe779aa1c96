"""Training the networks of a bundle: one loop, and what each network's training adds to it."""
