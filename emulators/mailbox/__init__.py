"""The emulated Hang Seng, CCB Asia, DBS, ZA and SPD as far as their transfer notifications go."""
