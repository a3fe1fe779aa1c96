"""A soak run: thousands of damaged inputs, kills and cancels, most of them in one process.

    python3 packaging/bootstrap.py test --soak [--part 0.1] [--seed 0] [--only pictures,kills]

Each case must end in a result or in a refusal with a reason (a CiadError). Another exception, something lost, and
memory or open files that grow are failures. Prints a table; exit code 1 if anything failed.
"""
