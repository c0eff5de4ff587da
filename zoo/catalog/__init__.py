"""What the zoo holds, and the options of each thing: read from source files, without torch."""
