"""The error whose message is meant for the user."""


class SceneError(ValueError):
    """Something in the scene cannot be used as it is; the message says what to do."""
