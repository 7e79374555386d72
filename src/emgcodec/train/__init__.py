"""Training: windows from many people and devices, and the loop that fits a codec to them."""
