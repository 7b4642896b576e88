# Included by CMakeLists.txt once there is a C compiler. Sets AEFM_REASON where the engine cannot be built.
set(native "${CMAKE_CURRENT_SOURCE_DIR}/native")
find_package(PkgConfig QUIET)
if(PkgConfig_FOUND)
  pkg_check_modules(LUAJIT QUIET luajit)
endif()
if(NOT LUAJIT_FOUND)
  find_path(LUAJIT_INCLUDE_DIRS luajit.h PATH_SUFFIXES luajit-2.1 luajit-2.0 luajit)
  find_library(LUAJIT_LINK_LIBRARIES NAMES luajit-5.1 luajit)
  if(LUAJIT_INCLUDE_DIRS AND LUAJIT_LINK_LIBRARIES)
    set(LUAJIT_FOUND TRUE)
  endif()
endif()
if(LUAJIT_FOUND AND AEFM_STATIC_LUAJIT)
  find_library(LUAJIT_ARCHIVE NAMES libluajit-5.1.a libluajit.a REQUIRED)
  set(LUAJIT_LINK_LIBRARIES ${LUAJIT_ARCHIVE} ${CMAKE_DL_LIBS} -static-libgcc)
endif()
find_package(Threads QUIET)
if(AEFM_TLS)
  set(OPENSSL_USE_STATIC_LIBS ${AEFM_STATIC_LUAJIT})
  find_package(OpenSSL 1.1.1 QUIET)
endif()

add_library(aefm_options INTERFACE)
target_compile_definitions(aefm_options INTERFACE _GNU_SOURCE AEFM_VERSION="${AEFM_VERSION}")
target_compile_options(aefm_options INTERFACE -Wall -Wextra $<$<BOOL:${AEFM_WERROR}>:-Werror>)
if(AEFM_SANITIZE)
  target_compile_options(aefm_options INTERFACE -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all
    -fno-omit-frame-pointer)
  target_link_options(aefm_options INTERFACE -fsanitize=address,undefined)
else()
  target_compile_options(aefm_options INTERFACE -O2)
endif()
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_EXTENSIONS OFF)

# What other native programs may share: no Lua in here.
add_library(aefm_net STATIC
  ${native}/abort_rule.c
  ${native}/base64.c
  ${native}/buffer.c
  ${native}/due_queue.c
  ${native}/histogram.c
  ${native}/http_parser.c
  ${native}/http_reader.c
  ${native}/http_request.c
  ${native}/json.c
  ${native}/loop.c
  ${native}/net.c
  ${native}/option_values.c
  ${native}/options.c
  ${native}/outcome.c
  ${native}/pacer.c
  ${native}/precision.c
  ${native}/quantity.c
  ${native}/queue_track.c
  ${native}/record.c
  ${native}/sample.c
  ${native}/schedule.c
  ${native}/selftest.c
  ${native}/stats.c
  ${native}/tagged.c
  ${native}/tags.c
  ${native}/target.c
  ${native}/url.c)
target_include_directories(aefm_net PUBLIC ${native})
target_link_libraries(aefm_net PUBLIC aefm_options m)

if(LUAJIT_FOUND AND Threads_FOUND)
  add_executable(aefm-wrk
    ${native}/awake.c
    ${native}/collect.c
    ${native}/conn.c
    ${native}/looks.c
    ${native}/main.c
    ${native}/observe.c
    ${native}/prepare.c
    ${native}/report_json.c
    ${native}/report_series.c
    ${native}/report_statistics.c
    ${native}/report_text.c
    ${native}/requests_file.c
    ${native}/script.c
    ${native}/script_api.c
    ${native}/script_open.c
    ${native}/script_prelude.c
    ${native}/self_check.c
    ${native}/watch.c
    ${native}/worker.c
    ${native}/worker_conn.c
    ${native}/worker_request.c)
  target_include_directories(aefm-wrk PRIVATE ${LUAJIT_INCLUDE_DIRS})
  target_link_libraries(aefm-wrk PRIVATE aefm_net ${LUAJIT_LINK_LIBRARIES} Threads::Threads m)
  if(OPENSSL_FOUND)
    target_sources(aefm-wrk PRIVATE ${native}/tls.c)
    target_link_libraries(aefm-wrk PRIVATE OpenSSL::SSL OpenSSL::Crypto)
  else()
    target_sources(aefm-wrk PRIVATE ${native}/tls_absent.c)
  endif()
  if(DEFINED SKBUILD_SCRIPTS_DIR)
    install(TARGETS aefm-wrk RUNTIME DESTINATION "${SKBUILD_SCRIPTS_DIR}")
  else()
    install(TARGETS aefm-wrk RUNTIME DESTINATION bin)
  endif()
elseif(NOT LUAJIT_FOUND)
  set(AEFM_REASON "LuaJIT's headers and library were not found (Debian: apt-get install libluajit-5.1-dev)")
else()
  set(AEFM_REASON "no usable threads library was found")
endif()

if(Threads_FOUND)
  include(${native}/mesh.cmake)
endif()

if(AEFM_TESTS)
  enable_testing()
  add_subdirectory(${native}/tests)
  add_subdirectory(${native}/fuzz)
endif()
