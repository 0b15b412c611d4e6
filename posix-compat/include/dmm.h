/* dmm.h: reading and writing in place, for programs that run under DMM.
 *
 * A socket that DMM carries in shared memory (a session) has its bytes in rings that both programs have
 * mapped. These functions lend that memory, so that nothing is copied: what was received is read where
 * the peer has written it, and what is to be sent is made where the peer will read it. They may be mixed
 * with read(2), write(2) and all other calls on the same socket.
 *
 * The functions are in libdmm_posix.so, which is preloaded. The program links to none of it: they are
 * declared weak, so that they are null where the program runs without DMM.
 *
 *     if (dmm_peek_in_place != NULL && (n = dmm_peek_in_place(fd, part)) >= 0)
 *         ...
 *
 * Everything else than a session says ENOTSUP (a socket) or ENOTSOCK (no socket): the program then goes
 * on with recv(2) and send(2). Whether a socket is a session is settled by connect(2) and accept(2), and
 * stays so; but a call may say ENOTSUP once bytes have come that did not go through the ring (from a
 * program that was started without DMM and has inherited the peer's socket): recv(2) has them.
 *
 * Loans. A thread may have one loan of received bytes and one of free memory at a time; the next loan of
 * the same kind, of whatever socket, ends the one before. Nothing is locked meanwhile, and a loan that is
 * never given back does no harm. If somebody else has moved that end of the socket in between (another
 * thread or process that reads, or writes, the same socket; a signal handler), giving it back says EBUSY
 * and has no effect: what was read in place may have been anything, and what was written there was not
 * sent. Let one thread at a time use each direction, as for any stream.
 *
 * The memory may be used until the loan is given back, or the process closes its last descriptor of the
 * socket. The peer can write to it at any time: check what you have copied, not what you are going to copy.
 *
 * Blocking. On a blocking socket dmm_peek_in_place waits for a byte and dmm_reserve for space, with
 * SO_RCVTIMEO and SO_SNDTIMEO, and both are cancellation points; on a non-blocking one they fail with
 * EAGAIN. The others never wait. No function raises SIGPIPE. All of them are async-signal-safe; in a
 * handler that has interrupted one of them on the same socket they fail with EAGAIN.
 */
#ifndef DMM_H
#define DMM_H

#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) || defined(__clang__)
#define DMM_WEAK __attribute__((weak))
#else
#define DMM_WEAK
#endif

/* Lends the bytes that have been received: part[0], and behind them part[1], which may be empty.
 *
 * Returns how many there are, 0 at the end of the stream (both parts are empty then), or -1:
 * EAGAIN, EINTR, ECONNRESET and others as recv(2); EBADF, ENOTSOCK, ENOTSUP; EFAULT. */
ssize_t dmm_peek_in_place(int fd, struct iovec part[2]) DMM_WEAK;

/* The first `n` bytes of this thread's loan have been read: they are gone, and the rest is still
 * unread. Ends the loan; with 0, it does only that.
 *
 * Returns `n`, or -1: EINVAL (no loan of this socket, or a shorter one, which then stays), EBUSY
 * (somebody else has read meanwhile), EAGAIN (in a signal handler), ECONNRESET, EBADF, ENOTSOCK, ENOTSUP. */
ssize_t dmm_consume(int fd, size_t n) DMM_WEAK;

/* Lends memory to be filled and sent: part[0], and behind it part[1], which may be empty.
 *
 * It is at least `min` bytes if they can be had. On a non-blocking socket it is what there is now; a
 * blocking one waits for `min` bytes or half of the ring, whichever is less. It may be more.
 *
 * Returns how many bytes, or -1: EAGAIN, EINTR, EPIPE, ECONNRESET and others as send(2); EBADF,
 * ENOTSOCK, ENOTSUP; EFAULT. */
ssize_t dmm_reserve(int fd, size_t min, struct iovec part[2]) DMM_WEAK;

/* Sends the first `n` bytes of this thread's loan. Ends the loan; with 0, it does only that.
 *
 * Returns `n`, or -1: EINVAL (no loan of this socket, or a shorter one, which then stays), EBUSY
 * (somebody else has written meanwhile), EAGAIN (in a signal handler), EPIPE, ECONNRESET, EBADF,
 * ENOTSOCK, ENOTSUP. */
ssize_t dmm_commit(int fd, size_t n) DMM_WEAK;

/* 1 if shared memory carries the socket, 0 if the kernel does; -1: EBADF, ENOTSOCK. */
int dmm_is_session(int fd) DMM_WEAK;

/* The name of the stack instance that carries the socket, as the policy calls it: "kernel", "local". It
 * is empty as long as the socket is bound to none (before connect and listen). Writes at most `size`
 * bytes, a zero byte included.
 *
 * Returns the length of the name, which may be `size` or more, or -1: EBADF, ENOTSOCK, ENOTSUP (no
 * socket of DMM's), ENODATA (the process shows no statistics). */
ssize_t dmm_stack(int fd, char *name, size_t size) DMM_WEAK;

#ifdef __cplusplus
}
#endif

#endif
