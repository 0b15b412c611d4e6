# Talks to prefork.pl over bash's /dev/tcp: a socket that is moved, duplicated and inherited.
set -eu
port=$1

exec 7<>"/dev/tcp/127.0.0.1/$port"
echo "first line" >&7
read -r answer <&7
echo "$answer"
(echo "from a subshell" >&7)
read -r answer <&7
echo "$answer"
sh -c 'echo "from another program" >&7'
read -r answer <&7
echo "$answer"
exec 9>&7 8<&7 7>&-
echo "by a duplicate" >&9
read -r answer <&8
echo "$answer"
exec 8<&- 9>&-

# Ten at once, in the background.
for number in 1 2 3 4 5 6 7 8 9 10; do
    {
        exec 7<>"/dev/tcp/127.0.0.1/$port"
        echo "background $number" >&7
        read -r answer <&7
        echo "$answer"
    } &
done | sort -k 2 -n
wait

# A pipeline whose last command writes into a socket, and whose digest comes back.
exec 7<>"/dev/tcp/127.0.0.1/$port"
echo sum >&7
head -c 3000000 /dev/zero | tr '\0' x | tee /dev/fd/7 | sha256sum | cut -d ' ' -f 1
# The end of the input is told by closing half of the connection, which only perl can do from here.
perl -e 'open my $socket, "+<&=", 7; shutdown $socket, 1'
cat <&7

if (exec 7<>/dev/tcp/127.0.0.1/1) 2>/dev/null; then echo "port 1 answers"; else echo "refused"; fi
echo "shell done"
