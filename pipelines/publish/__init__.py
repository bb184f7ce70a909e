"""What is pushed to the Hub: staging, cards, records that others can check, proof that the model loads."""
