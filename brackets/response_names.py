"""How users name the responses of cameras, apart from the curves: `--help` cannot wait for them."""

#: See `response.FIXED`; `auto` takes what the bracket says, `debevec` fits a curve to it.
RESPONSES = ("auto", "srgb", "gamma22", "linear", "debevec")
