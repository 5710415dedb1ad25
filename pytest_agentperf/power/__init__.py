"""Where accelerator power is read."""
