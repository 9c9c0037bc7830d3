"""Launch experiments on Slurm so that any run can be replayed byte for byte."""

__version__ = "0.1.0"
