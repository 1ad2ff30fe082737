"""TripoSR as a library: one picture in, a field of density and colour, a mesh out.

The way of the data, step by step, with the modules that each step is made of:

    conditioning   picture → square RGB picture, the object centred on grey
    network        picture → scene codes (config, weights; vit, transformer, attention, hardware)
    field          scene code → density and colour at any point (decoder, planes; activations)
    surface        field → mesh, triangles with colours (grid, sparse, cells find where to look)
    quality        mesh → what can be said of it; the same without its smallest pieces
    decimate       mesh → fewer triangles
    bake           mesh + field → textured mesh (unwrap lays it out, texels finds the places)
    placement      TripoSR's box → a scene, in metres
    orientation    TripoSR's axes and sRGB colours → glTF's axes and linear colours

And pictures of it, seen by a camera:

    volume         field → pictures, by volume rendering (lattice tells where to look)
    preview        mesh → one picture (drawing, raster, shading: in numpy)
    turntable      mesh → many (gl, gl_drawing: the same by OpenGL)

Knows nothing of jobs. Importing this package loads none of the libraries behind it. TripoSR's axes
throughout: z up, the input view looks from +x, image right is +y, the scene fills the box
[-radius, radius]³.
"""
