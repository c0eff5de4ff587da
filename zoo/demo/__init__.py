"""A page in the browser that asks a trained net: Gradio's, made from the model's task."""
