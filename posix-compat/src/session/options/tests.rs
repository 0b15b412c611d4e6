//! Every answer is compared with that of a TCP connection over the loopback device.

mod connection;
mod histories;
mod singles;
mod traffic;
