"""Reading, simulating and measuring brackets of phone exposures."""
