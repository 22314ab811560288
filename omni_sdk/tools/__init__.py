"""The tools wing: prepares models and measures them. Needs extras; the runtime never imports it."""
