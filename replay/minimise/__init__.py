"""The shortest trace that still shows a fact: delta debugging, with the replay as the oracle."""
