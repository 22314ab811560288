"""Quality and latency from real measurements, on the user's own models and data.

`drift`: how far a candidate model is from its reference. `wer`: word error rate of a transcriber. `mos`: predicted
speech quality. `listening`: listening tests with people. `latency`: from the end of speech to the first audio.
Each is imported by its own name, so that none needs another's packages.
"""
