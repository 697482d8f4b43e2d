"""The networks PocketHDR ships, written for training; they know nothing of export."""
