"""Views of W&B, made from what each task says that it logs; a finished sweep as a report."""
