//! `/proc/sys`: of the network namespace of the thread that opens the file.

mod watch;

pub(crate) use watch::Watch;

use crate::Error;
use alloc::borrow::ToOwned;
use alloc::string::String;
use narrowgate_model::ByName;
use narrowgate_sys::fs;
use narrowgate_sys::io::ErrorKind;

/// The value, without the line end; `None` if there is no such file.
pub(crate) fn read(path: &str) -> Result<Option<String>, Error> {
    match fs::read_to_string(place(path)?) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(format_args!("reading sysctl {path}"), &e)),
    }
}

/// Those that there are, by their paths.
#[inline(never)]
pub(crate) fn read_all(paths: &[String], values: &mut ByName<String>) -> Result<(), Error> {
    for path in paths {
        if let Some(value) = read(path)? {
            values.insert(path.clone(), value);
        }
    }
    Ok(())
}

/// Writes the value. A file that is not there is an error: this kernel, or this device, has no such setting.
pub(crate) fn write(path: &str, value: &str) -> Result<(), Error> {
    fs::write(place(path)?, value).map_err(|e| {
        let thing = format_args!("setting sysctl {path} to {value}");
        if e.kind() == ErrorKind::NotFound {
            let cause = format_args!("this kernel has no such setting, or the device is gone");
            Error::other(thing, e.raw_os_error(), cause)
        } else {
            Error::io(thing, &e)
        }
    })
}

fn place(path: &str) -> Result<String, Error> {
    // Device names come into these paths, and "." and ".." are no device names.
    if path.as_bytes().split(|byte| *byte == b'/').any(|part| matches!(part, b"" | b"." | b"..")) {
        return Err(Error::other(
            format_args!("sysctl \"{path}\""),
            None,
            format_args!("not a path below /proc/sys"),
        ));
    }
    Ok(["/proc/sys/", path].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_leave_proc_sys() {
        for path in ["", "/etc/passwd", "net/../../self/mem", "net//ipv4", "./net"] {
            assert!(read(path).is_err(), "{path}");
            assert!(write(path, "0").is_err(), "{path}");
        }
    }

    #[test]
    fn what_is_not_there_is_left_out_of_reading_and_refused_in_writing() {
        let path = "net/ipv4/conf/no-such-device/rp_filter";
        assert_eq!(read(path).unwrap(), None);
        let error = write(path, "0").unwrap_err();
        assert!(error.to_string().contains(path), "{error}");
        assert!(error.to_string().contains("no such setting"), "{error}");
    }

    #[test]
    fn a_value_comes_without_its_line_end() {
        let value = read("kernel/ostype").unwrap();
        assert_eq!(value.as_deref(), Some("Linux"));
    }
}
