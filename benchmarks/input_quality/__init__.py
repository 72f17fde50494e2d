"""What the detectors of faulty input find, among errors put into tables and images."""
