"""What ``xm_slurm`` tries out."""
