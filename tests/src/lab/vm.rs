//! The virtual machine for hosts without IPVS (design §8): runs one command on Debian's kernel,
//! with the host's root as its own, and hands back output and exit status. Owns the emulator's
//! process. Never lets the guest write to the host except in the artefacts folder. Its test is
//! `tests/tests/lab_ipvs_vm.rs`, which is itself run in it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::clock::Deadline;
use super::command::ChildHandle;
use super::initramfs::{Entry, archive};
use super::kernel::Kernel;
use super::{LabError, cache_dir, packages};

/// Set to 1 inside the machine.
pub const IN_VM: &str = "QUORATE_LAB_IN_VM";

/// Names the folder for artefacts, the same inside and outside.
pub const ARTEFACTS: &str = "QUORATE_LAB_ARTEFACTS";

/// What the machine needs to see the host's files and to hand back output.
const MODULES: &[&str] =
    &["virtio_pci", "virtio_console", "virtio_rng", "9pnet_virtio", "9p", "overlay"];

/// Time for a boot and a shutdown under emulation, beside the command's own limit.
const BOOT: Duration = Duration::from_secs(120);

/// One command to be run in the machine.
#[derive(Debug, Clone)]
pub struct VmCommand {
    /// The program: a path on the host, or a name in PATH.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Variables of its environment, beside PATH, HOME and [`IN_VM`].
    pub environment: Vec<(String, String)>,
    /// Its working directory.
    pub directory: PathBuf,
    /// A folder that the machine may write, shown at the same path in it.
    pub artefacts: Option<PathBuf>,
    /// How long it may take; the machine is ended then.
    pub limit: Duration,
    /// Its memory.
    pub memory_mib: u32,
    /// Whether the command gets this process's terminal, rather than its output going to a sink.
    pub interactive: bool,
}

impl VmCommand {
    /// A command in this process's directory, with ten minutes and 3 GiB.
    pub fn new(program: impl Into<String>, arguments: Vec<String>) -> Self {
        Self {
            program: program.into(),
            arguments,
            environment: Vec::new(),
            directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            artefacts: None,
            limit: Duration::from_secs(600),
            memory_mib: 3072,
            interactive: false,
        }
    }
}

/// Installs and fetches what the machine needs, once; later calls find it there.
///
/// # Errors
/// When packages or the kernel can't be had.
pub fn prepare(say: &mut dyn FnMut(&str)) -> Result<Kernel, LabError> {
    packages::ensure(&[packages::VM], say)?;
    Kernel::fetch(&cache_dir(), say)
}

/// Runs a command in a machine made for it, passing its output on as it comes, and gives its exit
/// status. The machine is gone when this returns.
///
/// # Errors
/// When the machine can't be had or started, ends without the command's status, or takes longer
/// than the command's limit.
pub fn run(command: &VmCommand, sink: &mut dyn FnMut(&[u8])) -> Result<ExitStatus, LabError> {
    let kernel = prepare(&mut packages::say_on_stderr)?;
    let control = tempfile::Builder::new()
        .prefix("quorate-vm-")
        .tempdir()
        .map_err(LabError::io("make a folder for the machine"))?;
    write_control(command, &kernel, control.path())?;
    let mut machine = Machine::start(command, &kernel, control.path())?;
    let deadline = Deadline::after(command.limit.saturating_add(BOOT));
    let ended = machine.follow(deadline, sink)?;
    let console = || console_tail(control.path());
    if !ended {
        let line = format!("{} {}", command.program, command.arguments.join(" "));
        return Err(LabError::TimedOut {
            command: format!("{line} (in the virtual machine)"),
            limit: command.limit,
            output: console(),
        });
    }
    let text = fs::read_to_string(control.path().join("status")).unwrap_or_default();
    match text.trim().parse::<i32>() {
        // As waitpid would have it; a shell has already mapped signals to 128 + n.
        Ok(code) => Ok(ExitStatus::from_raw((code & 0xff) << 8)),
        Err(_) => Err(LabError::Vm { reason: machine.last_words(), console: console() }),
    }
}

/// The emulator; ended when dropped.
#[derive(Debug)]
struct Machine {
    child: Child,
    handle: ChildHandle,
}

impl Machine {
    fn start(command: &VmCommand, kernel: &Kernel, control: &Path) -> Result<Self, LabError> {
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(arguments(command, kernel, control));
        if command.interactive {
            qemu.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
        } else {
            let errors = fs::File::create(control.join("qemu.log"))
                .map_err(LabError::io("make the emulator's log"))?;
            // Its standard input stays open, though nothing comes: at its end the emulator would
            // take the channel for hung up, and drop what the guest writes.
            qemu.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        }
        let child = qemu.spawn().map_err(LabError::io("start qemu-system-x86_64"))?;
        let handle = ChildHandle::open(&child)?;
        Ok(Self { child, handle })
    }

    /// Passes the output on until the machine has ended; false when the deadline came first.
    fn follow(
        &mut self,
        deadline: Deadline,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, LabError> {
        let Some(mut output) = self.child.stdout.take() else {
            return self.handle.wait(deadline);
        };
        let handle = &self.handle;
        std::thread::scope(|scope| {
            // Ends the machine in time, which ends the output, which ends the loop below.
            let guard = scope.spawn(move || {
                let ended = handle.wait(deadline)?;
                if !ended {
                    handle.signal(Signal::KILL)?;
                }
                Ok(ended)
            });
            let mut buffer = [0; 8192];
            loop {
                match output.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => sink(buffer.get(..count).unwrap_or_default()),
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(LabError::io("read the machine's output")(error)),
                }
            }
            guard.join().unwrap_or(Ok(false))
        })
    }

    fn last_words(&mut self) -> String {
        self.child.wait().map_or_else(|e| e.to_string(), |s| format!("the emulator: {s}"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It has usually ended by itself; if not, nobody is left to care for it.
        if self.handle.signal(Signal::KILL).is_ok() {
            let _reaped = self.child.wait();
        }
    }
}

fn arguments(command: &VmCommand, kernel: &Kernel, control: &Path) -> Vec<String> {
    let control = control.display();
    // ttyS0 is the kernel's console; a terminal, when there is one, is ttyS1.
    let cmdline =
        "console=ttyS0 loglevel=4 panic=-1 mitigations=off random.trust_cpu=on nokaslr edd=off";
    let mut list: Vec<String> = ["-nodefaults", "-no-user-config", "-nographic", "-no-reboot"]
        .into_iter()
        .chain(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-nic", "none"])
        .map(str::to_owned)
        .collect();
    let mut add = |option: &str, value: String| list.extend([option.to_owned(), value]);
    add("-m", command.memory_mib.to_string());
    add("-kernel", kernel.image().display().to_string());
    add("-initrd", format!("{control}/initramfs"));
    add("-append", cmdline.to_owned());
    add("-device", "virtio-rng-pci".into());
    add("-serial", format!("file:{control}/console.log"));
    if command.interactive {
        add("-chardev", "stdio,id=terminal,signal=off".into());
        add("-serial", "chardev:terminal".into());
    } else {
        add("-device", "virtio-serial-pci".into());
        add("-chardev", "stdio,id=output,signal=off".into());
        add("-device", "virtserialport,chardev=output,name=quorate.output".into());
    }
    let mut share = |tag: &str, path: String, options: &str| {
        // The comma parts options, so one in a path is written twice.
        let path = path.replace(',', ",,");
        add("-fsdev", format!("local,id={tag},path={path},security_model=none{options}"));
        add("-device", format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"));
    };
    share("host", "/".into(), ",readonly=on,multidevs=remap");
    share("control", control.to_string(), "");
    if let Some(artefacts) = &command.artefacts {
        share("artefacts", artefacts.display().to_string(), "");
    }
    list
}

/// Writes what the machine reads at its start: the initramfs, settings, and the command.
fn write_control(command: &VmCommand, kernel: &Kernel, control: &Path) -> Result<(), LabError> {
    let write = |name: &str, content: &[u8]| {
        fs::write(control.join(name), content).map_err(LabError::io(format!("write {name}")))
    };
    if let Some(artefacts) = &command.artefacts {
        fs::create_dir_all(artefacts).map_err(LabError::io("make the artefacts folder"))?;
    }
    write("initramfs", &initramfs(kernel)?)?;
    write("start", include_bytes!("scripts/start.sh"))?;
    write("command", command_script(command).as_bytes())?;
    let path = |path: &Path| quoted(&path.display().to_string());
    let (rows, columns) = terminal_size();
    let settings = [
        format!("MODULES={}", path(&kernel.modules_dir())),
        format!("ARTEFACTS={}", command.artefacts.as_deref().map(path).unwrap_or_default()),
        format!("INTERACTIVE={}", if command.interactive { "yes" } else { "no" }),
        format!("SECONDS_AT_MOST={}", command.limit.saturating_add(BOOT).as_secs() + 30),
        format!("ROWS={rows} COLUMNS={columns}\n"),
    ];
    write("settings", settings.join("\n").as_bytes())
}

fn initramfs(kernel: &Kernel) -> Result<Vec<u8>, LabError> {
    let read =
        |path: &Path| fs::read(path).map_err(LabError::io(format!("read {}", path.display())));
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
    let busybox = busybox.into_iter().find(|path| path.exists()).unwrap_or(busybox[0]);
    let program = |path: &str, content| Entry { path: path.into(), content, executable: true };
    let mut files = vec![
        program("busybox", read(busybox)?),
        program("init", include_bytes!("scripts/init.sh").to_vec()),
    ];
    for (index, module) in kernel.load_order(MODULES)?.iter().enumerate() {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        // They are loaded in the order of their names.
        let path = format!("modules/{index:02}-{name}");
        files.push(Entry { path, content: read(module)?, executable: false });
    }
    Ok(archive(&["modules"], &files))
}

fn command_script(command: &VmCommand) -> String {
    let mut script = format!("cd {} || exit 126\n", quoted(&command.directory.to_string_lossy()));
    let mut export = |name: &str, value: &str| {
        script.push_str(&format!("export {name}={}\n", quoted(value)));
    };
    export(IN_VM, "1");
    if let Some(artefacts) = &command.artefacts {
        export(ARTEFACTS, &artefacts.to_string_lossy());
    }
    for (name, value) in &command.environment {
        export(name, value);
    }
    script.push_str("exec");
    for word in std::iter::once(&command.program).chain(&command.arguments) {
        script.push(' ');
        script.push_str(&quoted(word));
    }
    script.push('\n');
    script
}

/// One word for a shell, whatever is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn terminal_size() -> (u16, u16) {
    let mut stty = Command::new("stty");
    stty.arg("size").stdin(Stdio::inherit()).stderr(Stdio::null());
    let known = stty.output().ok();
    let text = known.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|number| number.parse().ok());
    (numbers.next().unwrap_or(24), numbers.next().unwrap_or(80))
}

/// The end of the kernel's console and of the emulator's own words.
fn console_tail(control: &Path) -> String {
    let mut lines = Vec::new();
    for name in ["console.log", "qemu.log"] {
        let bytes = fs::read(control.join(name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let all: Vec<&str> = text.lines().collect();
        let tail = all.get(all.len().saturating_sub(30)..).unwrap_or_default();
        // The firmware clears the screen; a reader's terminal must not be cleared by that.
        let plain = |line: &&str| line.chars().filter(|c| !c.is_control()).collect::<String>();
        lines.extend(tail.iter().map(plain));
    }
    lines.join("\n")
}

/// A sink that passes everything on to standard output at once.
pub fn to_stdout(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    // A closed standard output is the reader's wish.
    let _closed = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_shell() {
        let word = "a'b $HOME \"c\" \\ \n*";
        let mut command = VmCommand::new("printf", vec!["%s".into(), word.into()]);
        command.environment.push(("LAB_WORD".into(), word.into()));
        let script = command_script(&command);
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), word);
    }
}
