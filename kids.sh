ps -eo pid,ppid,etime,args -ww | awk -v P=$1 '{pp[$1]=$2; l[$1]=$0} END{for(x in l){y=x; while(y>1&&y!=P)y=pp[y]; if(y==P)print l[x]}}' | cut -c1-160
