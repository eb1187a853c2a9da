"""Who trains, validates and tests: folds and their guard, protocols, official parts, fold files."""
