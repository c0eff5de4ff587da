"""What a run says, writes and draws for whoever reads it: tables, predictions, pictures."""
