"""Evidence: scores of codecs and of their rivals on people whom neither has met."""
