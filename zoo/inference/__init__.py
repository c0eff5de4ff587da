"""From a trained net to an answer."""
