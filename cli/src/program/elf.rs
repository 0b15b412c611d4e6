//! The few facts about an ELF file that decide whether the loader would preload a library into it.
//!
//! Works from program headers, which are what the kernel and the loader look at; section headers are
//! consulted only for Go's mark. Nothing in the file is trusted: a malformed one is an error.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use object::Endianness;
use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::read::{ReadCache, ReadRef, StringTable};

/// What an ELF file says about how it is to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf {
    /// Class, byte order and machine.
    pub target: Target,
    /// `PT_INTERP`: the loader the kernel starts first. A file without one is static, or a loader.
    pub interpreter: Option<PathBuf>,
    /// `DT_NEEDED`, in the order of the file.
    pub needed: Vec<String>,
    /// `DT_SONAME`.
    pub soname: Option<String>,
    /// Whether Go's linker made it.
    pub go: bool,
}

/// What code a file holds. A library is preloaded only into programs of its own target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    is_64: bool,
    big_endian: bool,
    machine: u16,
}

impl Elf {
    /// Reads the file; `None` if it is not ELF.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or it starts as ELF and then breaks the format (`InvalidData`).
    pub fn read(mut file: File) -> io::Result<Option<Self>> {
        let mut ident = [0; 16];
        if let Err(error) = file.read_exact(&mut ident) {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof => Ok(None),
                _ => Err(error),
            };
        }
        if ident[..4] != elf::ELFMAG {
            return Ok(None);
        }
        file.rewind()?;
        let cache = ReadCache::new(file);
        let elf = match elf::FileClass(ident[4]) {
            elf::ELFCLASS32 => parse::<FileHeader32<Endianness>, _>(&cache),
            _ => parse::<FileHeader64<Endianness>, _>(&cache),
        };
        elf.map(Some)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
    }

    /// Opens and reads a file.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        Self::read(File::open(path)?)
    }

    /// Whether this file is glibc's loader itself (`ld.so PROGRAM` runs a program under it).
    pub fn is_loader(&self) -> bool {
        self.soname
            .as_deref()
            .is_some_and(|soname| soname.starts_with("ld-linux") || soname.starts_with("ld64.so"))
    }

    /// Whether no loader takes part, so that nothing can be preloaded.
    pub fn is_static(&self) -> bool {
        self.interpreter.is_none() && !self.is_loader()
    }

    /// The shared AddressSanitizer runtime that the program needs. It refuses to run unless it is
    /// the first library of the process, before every preloaded one.
    pub fn sanitizer(&self) -> Option<&str> {
        self.needed
            .iter()
            .map(String::as_str)
            .find(|name| is_sanitizer(name))
    }
}

/// Whether a library's base name is that of a shared AddressSanitizer runtime (gcc's, clang's).
pub fn is_sanitizer(name: &str) -> bool {
    name.starts_with("libasan.so") || name.starts_with("libclang_rt.asan")
}

impl Target {
    /// What this program itself is for.
    pub fn own() -> Option<Self> {
        let own = Elf::open(Path::new("/proc/self/exe")).ok().flatten()?;
        Some(own.target)
    }

    /// Whether a kernel whose own programs are `own` may run this without an emulator: 64-bit machines
    /// run the 32-bit programs of their family.
    pub fn runs_beside(self, own: Self) -> bool {
        let family = |target: Self| match elf::Machine(target.machine) {
            elf::EM_386 => elf::EM_X86_64.0,
            elf::EM_ARM => elf::EM_AARCH64.0,
            _ => target.machine,
        };
        family(self) == family(own)
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bits = if self.is_64 { 64 } else { 32 };
        let machine = match elf::Machine(self.machine) {
            elf::EM_X86_64 if !self.is_64 => "x32",
            elf::EM_X86_64 => "x86-64",
            elf::EM_386 => "i386",
            elf::EM_AARCH64 => "aarch64",
            elf::EM_ARM => "arm",
            elf::EM_RISCV => "riscv",
            elf::EM_PPC64 => "ppc64",
            elf::EM_S390 => "s390x",
            _ => return write!(f, "{bits}-bit machine {}", self.machine),
        };
        write!(f, "{bits}-bit {machine}")
    }
}

fn parse<'data, Header, R>(data: R) -> object::read::Result<Elf>
where
    Header: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let header = Header::parse(data)?;
    let endian = header.endian()?;
    let mut elf = Elf {
        target: Target {
            is_64: header.is_type_64(),
            big_endian: header.is_big_endian(),
            machine: header.e_machine(endian).0,
        },
        interpreter: None,
        needed: Vec::new(),
        soname: None,
        go: has_go_section(header, endian, data),
    };
    let segments = header.program_headers(endian, data)?;
    for segment in segments {
        if let Some(path) = segment.interpreter(endian, data)? {
            elf.interpreter = Some(PathBuf::from(OsString::from_vec(path.to_vec())));
        }
        if let Some(dynamic) = segment.dynamic(endian, data)? {
            read_dynamic::<Header, R>(&mut elf, dynamic, segments, endian, data);
        }
        // Stripping may remove the sections, but not this note.
        if let Some(mut notes) = segment.notes(endian, data)? {
            while let Ok(Some(note)) = notes.next() {
                elf.go |= note.name() == b"Go";
            }
        }
    }
    Ok(elf)
}

/// A file without section headers is as good a program as one with them: no error here.
fn has_go_section<'data, Header, R>(header: &Header, endian: Endianness, data: R) -> bool
where
    Header: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let Ok(sections) = header.sections(endian, data) else {
        return false;
    };
    [&b".go.buildinfo"[..], b".note.go.buildid"]
        .iter()
        .any(|name| sections.section_by_name(endian, name).is_some())
}

fn read_dynamic<'data, Header, R>(
    elf: &mut Elf,
    dynamic: &[Header::Dyn],
    segments: &[Header::ProgramHeader],
    endian: Endianness,
    data: R,
) where
    Header: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let entries = || {
        dynamic
            .iter()
            .map(|entry| (entry.tag(endian), entry.val(endian)))
            .take_while(|(tag, _)| *tag != elf::DT_NULL)
    };
    let value = |wanted| entries().find_map(|(tag, val)| (tag == wanted).then_some(val));
    let (Some(address), Some(size)) = (value(elf::DT_STRTAB), value(elf::DT_STRSZ)) else {
        return;
    };
    // The table's address is a virtual one: find the segment that is loaded there.
    let Some(offset) = segments.iter().find_map(|segment| {
        let start: u64 = segment.p_vaddr(endian).into();
        let length: u64 = segment.p_filesz(endian).into();
        let file: u64 = segment.p_offset(endian).into();
        let within = address.checked_sub(start)?;
        (segment.p_type(endian) == elf::PT_LOAD && within < length)
            .then(|| file.checked_add(within))
            .flatten()
    }) else {
        return;
    };
    let strings = StringTable::new(data, offset, offset.saturating_add(size));
    let string = |at: u64| {
        let bytes = strings.get(u32::try_from(at).ok()?).ok()?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    };
    for (tag, val) in entries() {
        match tag {
            elf::DT_NEEDED => elf.needed.extend(string(val)),
            elf::DT_SONAME => elf.soname = string(val),
            _ => {}
        }
    }
}

#[cfg(test)]
impl Target {
    /// The 32-bit one of the same family.
    pub fn in_32_bits(self) -> Self {
        let machine = match elf::Machine(self.machine) {
            elf::EM_X86_64 => elf::EM_386.0,
            elf::EM_AARCH64 => elf::EM_ARM.0,
            _ => self.machine,
        };
        Self {
            is_64: false,
            machine,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_program_is_dynamic() {
        let elf = Elf::open(Path::new("/proc/self/exe")).unwrap().unwrap();
        assert!(!elf.is_static());
        assert!(!elf.go);
        assert!(
            elf.needed.iter().any(|name| name.starts_with("libc.so")),
            "{:?}",
            elf.needed
        );
        assert_eq!(elf.sanitizer(), None);
    }

    #[test]
    fn a_text_file_is_not_elf() {
        assert_eq!(Elf::open(Path::new("/proc/self/stat")).unwrap(), None);
    }

    #[test]
    fn damaged_files_are_read_without_a_panic() {
        let mut start = vec![0; 16 * 1024];
        File::open("/bin/true")
            .unwrap()
            .read_exact(&mut start)
            .unwrap();
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % below as u64) as usize
        };
        for _ in 0..2_000 {
            let mut bytes = start.clone();
            // Half of the changes hit the headers, which decide about everything else.
            for _ in 0..=next(4) {
                let at = if next(2) == 0 {
                    next(1024)
                } else {
                    next(start.len())
                };
                bytes[at] = next(256) as u8;
            }
            let mut file = tempfile::tempfile().unwrap();
            io::Write::write_all(&mut file, &bytes).unwrap();
            file.rewind().unwrap();
            let _ = Elf::read(file);
        }
    }

    #[test]
    fn a_truncated_file_is_an_error_not_a_panic() {
        let whole = std::fs::read("/proc/self/exe").unwrap();
        for length in [16, 20, 64, 70, 120, 4096] {
            let mut file = tempfile::tempfile().unwrap();
            io::Write::write_all(&mut file, &whole[..length]).unwrap();
            file.rewind().unwrap();
            // Whatever it says, it returns; what is cut before the program headers is an error.
            let read = Elf::read(file);
            assert!(length > 64 || read.is_err(), "{length}: {read:?}");
        }
    }
}
