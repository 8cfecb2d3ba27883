# Stands in for a build of Slicer: it copies the files of a scripted module to where Slicer's macro
# puts them, and makes a missing file or missing metadata an error.
set(_here ${CMAKE_CURRENT_LIST_DIR})
set(Slicer_FOUND TRUE)
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR lib/Slicer-5.12/qt-scripted-modules)
set(Slicer_USE_FILE ${_here}/UseSlicer.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${_here}/CheckMetadata.cmake)
set(Slicer_EXTENSION_CPACK ${_here}/CheckMetadata.cmake)
