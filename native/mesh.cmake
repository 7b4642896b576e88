# Included by native.cmake: aefm-mesh needs nothing but a C compiler, and is linked whole where that is possible, so that
# a container image may hold it alone.
set(mesh ${native}/mesh)
add_library(aefm_mesh STATIC
  ${mesh}/client.c ${mesh}/compute.c ${mesh}/config.c ${mesh}/config_reader.c ${mesh}/config_steps.c
  ${mesh}/connection.c ${mesh}/control.c ${mesh}/exchange.c ${mesh}/execution.c ${mesh}/json_reader.c ${mesh}/link.c
  ${mesh}/lru.c ${mesh}/metrics.c ${mesh}/otlp.c ${mesh}/peer.c ${mesh}/resolver.c ${mesh}/routing.c ${mesh}/sampler.c
  ${mesh}/service.c ${mesh}/stream.c ${mesh}/timers.c ${mesh}/trace_context.c ${mesh}/tracer.c)
target_link_libraries(aefm_mesh PUBLIC aefm_net Threads::Threads resolv m)

add_executable(aefm-mesh ${mesh}/main.c)
target_link_libraries(aefm-mesh PRIVATE aefm_mesh)
if(NOT AEFM_SANITIZE)
  include(CheckCSourceCompiles)
  set(CMAKE_REQUIRED_FLAGS "-static-pie -fPIE")
  check_c_source_compiles("int main(void) { return 0; }" AEFM_STATIC_PIE)
  unset(CMAKE_REQUIRED_FLAGS)
  if(AEFM_STATIC_PIE)
    target_compile_options(aefm_net PRIVATE -fPIE)
    target_compile_options(aefm_mesh PRIVATE -fPIE)
    target_compile_options(aefm-mesh PRIVATE -fPIE)
    target_link_options(aefm-mesh PRIVATE -static-pie)
  endif()
endif()
if(DEFINED SKBUILD_SCRIPTS_DIR)
  install(TARGETS aefm-mesh RUNTIME DESTINATION "${SKBUILD_SCRIPTS_DIR}")
else()
  install(TARGETS aefm-mesh RUNTIME DESTINATION bin)
endif()
