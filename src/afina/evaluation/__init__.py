"""What a finished run is held against and shown with: plain baselines, the report, the model card."""
