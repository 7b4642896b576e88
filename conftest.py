"""What all tests and experiments of this checkout share."""

pytest_plugins = ["pytester"]
