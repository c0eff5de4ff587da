"""A page in which a trained net runs and shows what happens inside it."""
