#!/bin/sh
# Stands between cargo and rustc: counts the branches of our own parsers for libFuzzer, and leaves all else as it is.
# These are options of the stable compiler; what cargo-fuzz needs a nightly one for is the address sanitizer, and there
# is no unsafe code here.
case " $* " in
*" --crate-name replication_protocol "* | *" --crate-name cdc_relay "* | *" --crate-name relay_fuzz "*)
    exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing
    ;;
*) exec "$@" ;;
esac
