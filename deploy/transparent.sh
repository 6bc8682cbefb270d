#!/bin/sh
# Diverts TCP connections that are forwarded to this port to a transparent proxy on this machine (transparent.cfg), and the answers of
# servers to connections that the proxy has made in the name of clients. Linux, as root; the servers' way back has to lead here.
#   transparent.sh up PORT     |     transparent.sh down PORT
set -eu
action=$1 port=$2 on_port=7000 mark=1 table=100

case $action in
up) rule=-A route=add ;;
down) rule=-D route=del ;;
*) echo "usage: $0 up|down PORT" >&2; exit 2 ;;
esac

# What belongs to a transparent socket already.
iptables -t mangle $rule PREROUTING -p tcp -m socket --transparent --nowildcard -j MARK --set-mark $mark
# What is new.
iptables -t mangle $rule PREROUTING -p tcp --dport "$port" -m mark ! --mark $mark \
  -j TPROXY --on-port $on_port --tproxy-mark $mark
# Marked packets are for this machine, whatever their address is.
ip rule $route fwmark $mark lookup $table
ip route $route local 0.0.0.0/0 dev lo table $table
