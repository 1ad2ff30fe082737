"""TripoSR as a library: one picture in, a field of density and colour, a mesh out.

The way of the data, one module a step:

    conditioning   picture → square RGB picture, the object centred on grey
    network        picture → scene codes (config, weights, vit, transformer are its parts)
    field          scene code + decoder → density and colour at any point (planes is a part of it)
    surface        field → triangle mesh (grid and sparse find where to look)
    decimate       triangle mesh → fewer triangles
    unwrap         triangle mesh → its layout on a square, in a process of its own
    texels, bake   layout + field → textured mesh
    camera, volume field → pictures, by volume rendering
    orientation    TripoSR's axes and sRGB colours → glTF's axes and linear colours
    raster, preview mesh → picture, in numpy alone

Knows torch, numpy, Pillow and scikit-image; nothing of jobs. Importing this package loads none
of them. TripoSR's axes throughout: z up, the input view looks from +x, image right is +y, the
scene fills the box [-radius, radius]³.
"""
