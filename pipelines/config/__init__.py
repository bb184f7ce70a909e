"""The configuration:
schemas of a run and an ablation, YAML with line numbers, checks and their messages; never torch.
"""
