"""What is measured of images and features: agreement, texture, errors, uncertainty. Numbers in, numbers out."""
