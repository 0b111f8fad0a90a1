"""Jobs of ai-toolkit."""
