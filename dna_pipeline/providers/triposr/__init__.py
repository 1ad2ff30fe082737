"""TripoSR as a library: one picture in, a field of density and colour, a mesh out.

The way of the data, step by step, with the modules that each step is made of:

    conditioning   picture → square RGB picture, the object centred on grey
    network        picture → scene codes (config, weights; vit, transformer, attention)
    field          scene code → density and colour at any point (decoder, planes; activations)
    surface        field → mesh, triangles with colours (grid, sparse, cells find where to look)
    bake           mesh + field → textured mesh
    volume         field → pictures, by volume rendering (lattice tells where to look)

`scenes` keeps scene codes, so that other parameters go on from them. `copies` brings tensors to the
device. `provider` is the model that stages use. What needs no network lies in `media/meshes`:
quality, decimation, layout of textures, placement, orientation, pictures of meshes and their files.

Knows nothing of jobs. Importing this package loads none of the libraries behind it. TripoSR's axes
throughout: z up, the input view looks from +x, image right is +y, the scene fills the box
[-radius, radius]³.
"""
