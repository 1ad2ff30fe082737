"""Marks: what a picture, mesh or film says in its file of its origin.

packet    the values, and their texts: XMP, and JSON-LD for glTF
credits   the authors, rights and keywords that an input image names
embed     puts a packet into the bytes of a PNG, JPEG, WebP, GLB or MP4
signing   signs a finished file with a certificate (C2PA)
"""
