//! Whether this process and the kernel's programs read the same clock. Tests: below.

use std::io;

use super::error::{FenceError, FenceStep};

/// The fence's program reads the kernel's own clock (bpf_ktime_get_boot_ns), deadlines are of this
/// process's: in a time namespace the two may be apart (time_namespaces(7)).
pub(super) fn must_be_the_kernels() -> Result<(), FenceError> {
    match std::fs::read_to_string("/proc/self/timens_offsets") {
        Ok(text) if has_no_offset(&text) => Ok(()),
        Ok(_) => Err(FenceError::TimeNamespace),
        // A kernel without time namespaces.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(FenceError::from_io(FenceStep::Load, &error)),
    }
}

/// Lines as `boottime  86400  0`: clock, seconds, nanoseconds.
fn has_no_offset(text: &str) -> bool {
    let boottime = text.lines().filter_map(|line| line.trim().strip_prefix("boottime"));
    boottime.flat_map(str::split_whitespace).all(|number| number == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_not_the_kernels_is_told_from_one_that_is() {
        assert!(has_no_offset(
            "monotonic           0         0\nboottime            0         0\n"
        ));
        assert!(has_no_offset(
            "monotonic           9         0\nboottime            0         0\n"
        ));
        assert!(!has_no_offset(
            "monotonic           0         0\nboottime        86400         0\n"
        ));
        assert!(!has_no_offset(
            "monotonic           0         0\nboottime            0         1\n"
        ));
    }
}
