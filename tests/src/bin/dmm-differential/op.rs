//! What a sequence is made of: one [`Op`] is one call of the socket API (or a few that belong
//! together), with everything that decides its outcome written out.
//!
//! Descriptors are named by *slot*: the op that makes a descriptor stores it in a slot, later ops
//! use whatever number that slot holds, also after it was closed. So a sequence stays meaningful
//! when the shrinker takes ops out of it.

use libc::c_int;

/// Index of a descriptor in the executor's table.
pub(crate) type Slot = usize;

/// A generated sequence.
pub(crate) type Sequence = Vec<Op>;

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Socket {
        dst: Slot,
        domain: c_int,
        kind: c_int,
        protocol: c_int,
    },
    SocketPair {
        dst: [Slot; 2],
        domain: c_int,
        kind: c_int,
    },
    Pipe {
        dst: [Slot; 2],
        flags: c_int,
    },
    File {
        dst: Slot,
    },
    Bind {
        s: Slot,
        to: Addr,
    },
    Listen {
        s: Slot,
        backlog: c_int,
    },
    Connect {
        s: Slot,
        to: Addr,
    },
    Accept {
        s: Slot,
        dst: Slot,
        flags: Option<c_int>,
        room: Room,
    },
    Name {
        s: Slot,
        peer: bool,
        room: Room,
    },
    Shutdown {
        s: Slot,
        how: c_int,
    },
    SetOption {
        s: Slot,
        level: c_int,
        name: c_int,
        value: Value,
    },
    GetOption {
        s: Slot,
        level: c_int,
        name: c_int,
        room: c_int,
    },
    Send {
        s: Slot,
        data: Data,
        flags: c_int,
        how: SendBy,
    },
    Receive {
        s: Slot,
        len: usize,
        flags: c_int,
        how: ReceiveBy,
    },
    /// Send without blocking until the buffers are full, then drain the other end: what goes in
    /// comes out, whatever the size of the buffers.
    FillAndDrain {
        from: Slot,
        to: Slot,
    },
    SendDescriptor {
        via: Slot,
        what: Slot,
    },
    ReceiveDescriptor {
        via: Slot,
        dst: Slot,
        cloexec: bool,
    },
    SendFile {
        s: Slot,
        file: Slot,
        len: usize,
    },
    Splice {
        from: Slot,
        to: Slot,
        len: usize,
    },
    Tee {
        from: Slot,
        to: Slot,
        len: usize,
    },
    Stdio {
        s: Slot,
        text: u8,
    },
    Dprintf {
        s: Slot,
        text: u8,
    },
    Close {
        s: Slot,
    },
    CloseRange {
        first: Slot,
        last: Slot,
        flags: c_int,
    },
    Dup {
        s: Slot,
        dst: Slot,
        how: DupBy,
    },
    Fcntl {
        s: Slot,
        cmd: c_int,
        arg: c_int,
    },
    Ioctl {
        s: Slot,
        request: u64,
        arg: c_int,
    },
    Stat {
        s: Slot,
    },
    Seek {
        s: Slot,
        how: SeekBy,
    },
    EpollCreate {
        dst: Slot,
        flags: c_int,
    },
    EpollCtl {
        ep: Slot,
        op: c_int,
        s: Slot,
        events: u32,
    },
    EpollWait {
        ep: Slot,
        max: c_int,
        timeout: c_int,
        how: EpollBy,
    },
    Poll {
        set: Vec<(Slot, i16)>,
        timeout: c_int,
        masked: bool,
    },
    Select {
        read: Vec<Slot>,
        write: Vec<Slot>,
        except: Vec<Slot>,
        millis: i64,
        masked: bool,
    },
    Wrong(Wrong, Slot),
    /// The rest of the sequence happens somewhere else; this process waits for it, its own
    /// descriptors still open.
    Rest(Elsewhere),
}

/// An address argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Addr {
    /// 127.0.0.1
    V4(Port),
    /// 127.0.0.2: on the same interface, but not the same address.
    OtherV4(Port),
    /// 0.0.0.0
    AnyV4(Port),
    /// ::1
    V6(Port),
    /// ::
    AnyV6(Port),
    /// ::ffff:127.0.0.1
    Mapped(Port),
    /// An address of this host's documentation prefix that no interface has.
    Foreign,
    /// 224.0.0.1
    Multicast(Port),
    /// 255.255.255.255
    Broadcast(Port),
    /// A path in the working directory.
    Path(u8),
    /// A path in a directory that does not exist.
    NoPath,
    Abstract(u8),
    /// `AF_UNIX` and nothing more: autobind, or an invalid destination.
    Unnamed,
    /// `AF_UNSPEC`: dissolves an association.
    Unspec,
    /// The family is a nonsense number.
    BadFamily,
    /// An IPv4 address of 8 bytes.
    Short,
    /// A length of 0 with a valid pointer.
    Empty,
    /// A length beyond any address.
    Long,
    /// A negative length.
    Negative,
    Null,
    /// A pointer to memory that is not mapped.
    Wild,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Port {
    Zero,
    /// One of a few ports that are this sequence's own.
    Own(u8),
    /// The port that the socket in a slot is bound to.
    Of(Slot),
    /// Nobody listens there.
    Dead,
}

/// Where an address or a value that is returned may be written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Room {
    Full,
    /// So many bytes.
    Bytes(u32),
    /// The length pointer is null, the address pointer is not.
    NullLength,
    /// The address pointer is null with a length.
    NullAddress,
    /// Both are null: the caller does not want it.
    None,
    Wild,
}

/// The value of an option.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value {
    Int(c_int),
    /// The int's first byte only.
    Byte(u8),
    Linger(c_int, c_int),
    Millis(i64),
    Text(&'static str),
    Membership,
    /// A valid int, this length.
    Length(c_int, u32),
    Null(u32),
    Wild,
}

/// Bytes to send: made from a tag, so that a wrong, lost or doubled byte shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Data {
    pub(crate) tag: u8,
    pub(crate) len: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum SendBy {
    Write,
    Writev(u8),
    Send,
    SendTo(Addr),
    /// Number of pieces, and an address if there is one.
    SendMsg(u8, Option<Addr>),
    /// Number of messages.
    SendMmsg(u8, Option<Addr>),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ReceiveBy {
    Read,
    Readv(u8),
    Receive,
    ReceiveFrom(Room),
    /// Room for control messages, in bytes.
    ReceiveMsg(usize),
    /// Number of messages.
    ReceiveMmsg(u8),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum DupBy {
    Dup,
    /// Onto the number in a slot, which may be the same.
    Dup2(Slot),
    Dup3(Slot, c_int),
    /// `F_DUPFD` or `F_DUPFD_CLOEXEC` with this least number.
    Fcntl(c_int, c_int),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum SeekBy {
    Lseek,
    Pread,
    Pwrite,
    Fsync,
    Ftruncate,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum EpollBy {
    Wait,
    Pwait,
    Pwait2,
}

/// Calls that are wrong in a way of their own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wrong {
    ReadNull,
    WriteWild,
    SendNegativeFlags,
    SendMsgNull,
    ReceiveMsgWild,
    SendMsgManyPieces,
    WritevNegative,
    ReadvWildPieces,
    MmsgNull,
    PollNull,
    PollNegativeTimeout,
    SelectWild,
    SelectNegative,
    SelectBadTime,
    EpollCtlNull,
    EpollWaitNull,
    EpollWaitZero,
    EpollCreateNegative,
    EpollSelf,
    IoctlNull,
    IoctlUnknown,
    FcntlUnknown,
    DupNegative,
    Dup2Huge,
    CloseNegative,
    CloseTwice,
    SocketPairNull,
    SocketPairInet,
    SpliceSame,
    SendFileSocketAsFile,
    MinusOne,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Elsewhere {
    Thread,
    Fork,
    /// fork and exec of this program, which takes the descriptors over by number.
    Exec,
    /// `posix_spawn`, with file actions that copy a descriptor and close another.
    Spawn,
}
