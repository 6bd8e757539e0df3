"""Who carries out the jobs: worker processes of this machine."""
