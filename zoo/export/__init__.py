"""A checkpoint in the forms that other programs read: ONNX, torch.export, transformers' folders."""
