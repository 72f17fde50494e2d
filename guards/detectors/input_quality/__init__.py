"""What the detectors of faulty input are made of: densities, missing values, likely mistakes, image statistics."""
