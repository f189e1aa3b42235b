"""Programs that git starts on a push: standalone, standard library only."""
