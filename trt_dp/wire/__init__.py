"""How coordinator and workers talk: typed messages over one authenticated socket."""
