"""Random scenes of the simulator: a street, what stands along it and who moves on it.

random_scenes     one scene, drawn from ``options`` (how hard) and ``styles`` (what kind of street)
builder           puts objects into a street and keeps track of the places that are taken
ground            the ground with its kerbs
traffic           road users; ``company`` who stands beside whom, ``families`` other shapes of them
roadside          houses, gardens, street furniture
lookalikes        unlabelled objects that look like a class
surfaces          black and polished vehicles
tilt              a car that pitches and rolls
"""
